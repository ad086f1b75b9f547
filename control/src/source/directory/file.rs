//! One file of manifests.

use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};
use weft_api::{Object, ObjectKey, Parsed};
use weft_index::{Finding, Severity};

/// A file larger than this is no manifest.
const LARGEST: u64 = 64 << 20;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            inode: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// What a file says.
#[derive(Debug, Default)]
pub struct Contents {
    /// Its objects.
    pub objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl Contents {
    /// Whether something in the file could not be read, so that what is missing from it may be in that something.
    pub(super) fn is_broken(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Error)
    }
}

/// Reads a file: whatever it holds, the answer is what can be used and what is wrong.
pub fn read(path: &Path) -> Contents {
    let mut reader = Reading { file: path.display().to_string(), contents: Contents::default() };
    match fs::metadata(path).map(|m| m.len()) {
        Ok(size) if size > LARGEST => reader.error(
            "",
            format!("the file has {size} bytes"),
            "split it; a file of manifests has at most 64 MiB",
        ),
        _ => match fs::read_to_string(path) {
            Ok(text) => reader.documents(&text),
            Err(error) => reader.error("", format!("cannot be read: {error}"), "make it readable"),
        },
    }
    reader.contents
}

struct Reading {
    file: String,
    contents: Contents,
}

impl Reading {
    fn documents(&mut self, text: &str) {
        for (at, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
            match Value::deserialize(document) {
                Ok(value) => self.manifest(value),
                Err(error) => {
                    // After a syntax error the parser does not know where the next document begins.
                    let message = format!("document {} is not YAML: {error}", at + 1);
                    return self.error(
                        "",
                        message,
                        "mend the syntax; what the file said before stays in force",
                    );
                }
            }
        }
    }

    fn manifest(&mut self, value: Value) {
        if value.is_null() {
            return;
        }
        let is_list =
            value.get("kind").and_then(Value::as_str).is_some_and(|k| k.ends_with("List") || k == "List");
        if let (true, Some(Value::Array(items))) = (is_list, value.get("items")) {
            return items.clone().into_iter().for_each(|item| self.manifest(item));
        }
        match Object::parse(value) {
            Ok(Parsed::Foreign { .. }) => {}
            Ok(Parsed::Object(object, unknown)) => self.object(*object, unknown),
            Err(error) => {
                if let Some(left) = error.left {
                    // Where a good one of the same name stands in the file as well, that one holds.
                    let left = Object::Broken(*left);
                    self.contents.objects.entry(left.key()).or_insert_with(|| Arc::new(left));
                }
                let finding = Finding {
                    severity: Severity::Error,
                    file: Some(self.file.clone()),
                    object: error.object,
                    field: error.field,
                    message: error.message,
                    mend: "mend the field; if there was a good version of the object, it stays in force"
                        .into(),
                };
                self.contents.findings.push(finding);
            }
        }
    }

    fn object(&mut self, object: Object, unknown: Vec<String>) {
        let key = object.key();
        for field in unknown {
            self.contents.findings.push(Finding {
                severity: Severity::Warning,
                file: Some(self.file.clone()),
                object: Some(key.clone()),
                field,
                message: "no such field; it is ignored".into(),
                mend: "see how it is spelt, and under which field it belongs".into(),
            });
        }
        match self.contents.objects.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Arc::new(object));
            }
            Entry::Occupied(mut place) if place.get().is_broken() => {
                place.insert(Arc::new(object));
            }
            Entry::Occupied(place) => {
                self.contents.findings.push(twice(place.key(), &self.file, &self.file));
            }
        }
    }

    fn error(&mut self, field: &str, message: String, mend: &str) {
        self.contents.findings.push(Finding {
            severity: Severity::Error,
            file: Some(self.file.clone()),
            object: None,
            field: field.into(),
            message,
            mend: mend.into(),
        });
    }
}

/// The finding about an object that stands in two places.
pub(super) fn twice(key: &ObjectKey, file: &str, first: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        file: Some(file.to_owned()),
        object: Some(key.clone()),
        field: String::new(),
        message: format!("the object also stands in {first}, which holds"),
        mend: "delete one of the two".into(),
    }
}
