//! Certificates, as the admin interface tells them.

use crate::admin::proto;
use weft_io::tls::{CertState, CertStatus};

/// One identity's certificate.
pub fn certificate(status: &CertStatus) -> proto::Certificate {
    proto::Certificate {
        identity: status.identity.to_string(),
        state: state(status.state).to_owned(),
        serial: status.serial.clone().unwrap_or_default(),
        not_before: status.not_before.map(super::time).unwrap_or_default(),
        not_after: status.not_after.map(super::time).unwrap_or_default(),
        last_error: status.last_error.clone().unwrap_or_default(),
    }
}

/// The word for where a certificate stands.
pub fn state(state: CertState) -> &'static str {
    match state {
        CertState::Pending => "pending",
        CertState::Valid => "valid",
        CertState::Expired => "expired",
        CertState::Early => "early",
        CertState::Failed => "failed",
    }
}
