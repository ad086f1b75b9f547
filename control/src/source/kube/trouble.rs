//! What can go wrong between control and the API, and what a person can do about it.

use super::kinds::{KubeResource, resource_of};
use weft_api::Kind;
use weft_index::{Finding, Severity};
use weft_io::told::whole;

/// Why a kind cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The API does not find the kind.
    NotFound,
    /// There is no such type; there may have been objects of it.
    Missing {
        /// Whether there were.
        emptied: bool,
    },
    /// The type is there in these versions alone, none of which is read.
    Unserved(String),
    /// The type is being set up or taken down.
    Pending,
    /// The API does not find the kind, and whether the type is gone cannot be seen.
    Unsure(String),
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
                404 => Trouble::NotFound,
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
            Trouble::NotFound => (
                Severity::Warning,
                plural,
                format!("the Kubernetes API does not find {plural}; {stays}"),
                "see that the API server is whole; it is tried again".to_owned(),
            ),
            Trouble::Pending => (
                Severity::Warning,
                plural,
                format!("the CustomResourceDefinition {plural}.{group} is being set up or deleted; {stays}"),
                "it is tried again".to_owned(),
            ),
            Trouble::Unserved(versions) => (
                Severity::Error,
                plural,
                format!("the cluster serves {plural} of {group} in {versions} alone, which control does not read; {stays}"),
                format!("install a CustomResourceDefinition {plural}.{group} that serves v1"),
            ),
            Trouble::Unsure(why) => (
                Severity::Error,
                plural,
                format!("the Kubernetes API does not find {plural}, and whether their type is gone cannot be seen ({why}); {stays}"),
                "give the ClusterRole of control's service account the rule {apiGroups: [\"apiextensions.k8s.io\"], resources: \
                 [\"customresourcedefinitions\"], verbs: [\"get\"]}"
                    .to_owned(),
            ),
            Trouble::Missing { emptied: true } => (
                Severity::Warning,
                plural,
                format!(
                    "the CustomResourceDefinition {plural}.{group} was deleted, and all {plural} with it: nothing is in force of them"
                ),
                "where that was not meant, install it again and apply them; it is watched for".to_owned(),
            ),
            Trouble::Missing { emptied: false } => (
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
