//! The messages of `proto/admin.proto`. What each says stands there.
#![allow(missing_docs, unused_qualifications, reason = "generated; the .proto file is the documentation")]

tonic::include_proto!("weft.admin.v1");
