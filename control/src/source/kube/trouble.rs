//! What can go wrong between control and the API, and what a person can do about it.

use super::kinds::{KubeResource, resource_of};
use weft_api::Kind;
use weft_index::{Finding, Severity};
use weft_io::told::whole;

/// Why a kind cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The API does not have the kind.
    Missing,
    /// Control's account may not.
    Forbidden(&'static str),
    /// The API does not know control's account.
    Unauthorized,
    /// The version that was read up to is forgotten; everything must be listed again.
    Expired,
    /// The API cannot be reached, or is not up.
    Away(String),
    /// It answers something else.
    Refused(String),
}

impl Trouble {
    /// What `error` means that `verb` ended with.
    pub(super) fn of(verb: &'static str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Trouble::Unauthorized,
                403 => Trouble::Forbidden(verb),
                404 => Trouble::Missing,
                410 => Trouble::Expired,
                429 | 500..=599 => Trouble::Away(status.message.clone()),
                _ => Trouble::Refused(format!("{verb}: {}", status.message)),
            },
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
                Trouble::Refused(format!("{verb}: {}", whole(error)))
            }
            error => Trouble::Away(whole(error)),
        }
    }

    /// The finding about it. `before` says whether the kind was read once.
    pub(super) fn finding(&self, kind: Kind, before: bool) -> Option<Finding> {
        let KubeResource { group, version, plural } = resource_of(kind);
        let stays = if before { "what was read before stays in force" } else { "nothing of it is known yet" };
        let (severity, field, message, mend) = match self {
            Trouble::Expired => return None,
            Trouble::Missing => (
                Severity::Info,
                plural,
                format!("the cluster has no {group}/{version} {plural}"),
                format!("install the CustomResourceDefinition {plural}.{group} to use them; it is watched for"),
            ),
            Trouble::Forbidden(verb) => (
                Severity::Error,
                plural,
                format!("control may not {verb} {plural}; {stays}"),
                format!(
                    "give the ClusterRole of control's service account the rule {{apiGroups: [\"{group}\"], resources: \
                     [\"{plural}\"], verbs: [\"list\", \"watch\"]}}"
                ),
            ),
            Trouble::Unauthorized => (
                Severity::Error,
                "",
                format!("the Kubernetes API does not accept control's credentials; {stays}"),
                "see that its service account exists and that the clocks agree; a token that expired is read anew from its \
                 file"
                    .to_owned(),
            ),
            Trouble::Away(why) => (
                Severity::Warning,
                "",
                format!("the Kubernetes API does not answer ({why}); {stays}"),
                "see that the API server runs and can be reached from here; it is tried again".to_owned(),
            ),
            Trouble::Refused(why) => (
                Severity::Error,
                plural,
                format!("the Kubernetes API refuses {why}; {stays}"),
                "see the API server's log".to_owned(),
            ),
        };
        Some(Finding { severity, file: None, object: None, field: field.to_owned(), message, mend })
    }
}
