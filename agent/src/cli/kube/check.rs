//! `check` of a cluster: before an install what it lacks, after one what is not well. Each row says how to mend it.
//!
//! What is read is read here; what it means is decided by pure functions in `before` and `after`.

mod after;
mod before;
mod stuck;

use super::{
    agents::{Agent, Cluster},
    answers::each,
    error::{self, KubeError},
};
use crate::{
    admin::proto::Empty,
    cli::{
        client::CliError,
        output::{Output, Row},
    },
};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{ConfigMap, Namespace, Node},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, io::Write};

/// Objects in one answer of the API server.
const PAGE: u32 = 500;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, or cannot be told; a person should look.
    Look,
    /// It does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    what: String,
    state: State,
    found: String,
    mend: String,
}

impl Finding {
    fn new(what: &str, state: State, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.to_owned(), state, found: found.into(), mend: mend.into() }
    }

    fn ok(what: &str, found: impl Into<String>) -> Self {
        Self::new(what, State::Ok, found, "")
    }

    fn bad(what: &str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(what, State::Bad, found, mend)
    }

    fn look(what: &str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(what, State::Look, found, mend)
    }

    /// Something that the API server does not tell.
    fn untold(what: &str, error: &kube::Error) -> Self {
        Self::look(what, format!("cannot tell: {}", error::why(error)), "ask as somebody who may read it")
    }
}

impl Row for Finding {
    const HEAD: &'static [&'static str] = &["LOOKED AT", "STATE", "FOUND", "TO MEND"];
    const EMPTY: &'static str = "nothing to check";

    fn cells(&self) -> Vec<String> {
        let state = match self.state {
            State::Ok => "ok",
            State::Look => "look",
            State::Bad => "bad",
        };
        vec![self.what.clone(), state.to_owned(), self.found.clone(), self.mend.clone()]
    }
}

/// Looks at everything, or at what is installed alone.
pub async fn run(
    cluster: &Cluster,
    only_installed: bool,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let mut findings = Vec::new();
    if !only_installed {
        findings.extend(prerequisites(cluster).await);
    }
    match cluster.agents(None).await {
        Ok(agents) => findings.extend(installed(cluster, &agents).await),
        Err(error @ KubeError::NoAgents(_)) if only_installed => return Err(error.into()),
        Err(KubeError::NoAgents(namespace)) => {
            findings.push(Finding::ok("Weft", format!("not installed in {namespace}")));
        }
        Err(error) => return Err(error.into()),
    }
    output.list(&findings, out)?;
    match findings.iter().filter(|f| f.state == State::Bad).count() {
        0 => Ok(()),
        bad => Err(KubeError::Bad(bad).into()),
    }
}

async fn prerequisites(cluster: &Cluster) -> Vec<Finding> {
    let client = &cluster.client;
    let mut findings = Vec::new();
    findings.push(match client.apiserver_version().await {
        Ok(version) => before::api(&version),
        Err(e) => Finding::untold(before::API, &e),
    });
    findings.extend(permissions(cluster).await);
    match all::<Node>(Api::all(client.clone())).await {
        Ok(nodes) => findings.extend(before::nodes(&nodes)),
        Err(e) => findings.push(Finding::untold(before::KERNELS, &e)),
    }
    let crds = Api::<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    >::all(client.clone());
    findings.push(match crds.list_metadata(&ListParams::default()).await {
        Ok(crds) => {
            before::types(&crds.items.iter().filter_map(|c| c.metadata.name.as_deref()).collect::<Vec<_>>())
        }
        Err(e) => Finding::untold(before::TYPES, &e),
    });
    findings.push(match everywhere(cluster).await {
        Ok(names) => before::others(&names),
        Err(e) => Finding::untold(before::OTHERS, &e),
    });
    findings.push(match Api::<Namespace>::all(client.clone()).get_opt(&cluster.namespace).await {
        Ok(namespace) => before::security(&cluster.namespace, namespace.as_ref()),
        Err(e) => Finding::untold(before::SECURITY, &e),
    });
    findings
}

/// Names of the DaemonSets and Deployments of all namespaces, where they are.
async fn everywhere(cluster: &Cluster) -> kube::Result<Vec<(String, String)>> {
    let mut names = Vec::new();
    let sets = Api::<DaemonSet>::all(cluster.client.clone()).list_metadata(&ListParams::default()).await?;
    let deployments =
        Api::<Deployment>::all(cluster.client.clone()).list_metadata(&ListParams::default()).await?;
    let all =
        sets.items.into_iter().map(|o| o.metadata).chain(deployments.items.into_iter().map(|o| o.metadata));
    for metadata in all {
        names.push((metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default()));
    }
    Ok(names)
}

/// Whether whoever asks may install.
async fn permissions(cluster: &Cluster) -> Vec<Finding> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let mut missing = Vec::new();
    for (group, resource, namespaced) in before::INSTALLED {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some((*group).to_owned()),
                    resource: Some((*resource).to_owned()),
                    verb: Some("create".to_owned()),
                    namespace: namespaced.then(|| cluster.namespace.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        match reviews.create(&PostParams::default(), &review).await {
            Ok(answer) if answer.status.as_ref().is_some_and(|s| s.allowed) => {}
            Ok(_) => missing.push(*resource),
            Err(e) => return vec![Finding::untold(before::PERMISSIONS, &e)],
        }
    }
    vec![before::permissions(&missing)]
}

async fn installed(cluster: &Cluster, agents: &[Agent]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let control = one::<Deployment>(cluster, "weft-control").await;
    findings.push(match &control {
        Ok(control) => after::control(control.as_ref()),
        Err(e) => Finding::untold(after::CONTROL, e),
    });
    findings.push(match one::<DaemonSet>(cluster, "weft-agent").await {
        Ok(set) => after::agents(set.as_ref()),
        Err(e) => Finding::untold(after::AGENTS, &e),
    });
    if let Ok(pods) = cluster.agents_pods(None).await {
        findings.extend(stuck::agents(&pods));
    }
    findings.push(match one::<ConfigMap>(cluster, "weft-ca-root").await {
        Ok(roots) => after::roots(roots.as_ref()),
        Err(e) => Finding::untold(after::ROOTS, &e),
    });
    let ask = each(cluster, agents, async |mut agent| Ok(agent.get_status(Empty {}).await?.into_inner()));
    let answers = ask.await;
    findings.extend(after::answers(&answers.nodes, &answers.errors));
    let version = control.ok().flatten().and_then(|c| after::version(&c));
    findings.push(after::skew(version.as_deref(), &answers.nodes));
    findings
}

async fn one<K>(cluster: &Cluster, name: &str) -> kube::Result<Option<K>>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    Api::<K>::namespaced(cluster.client.clone(), &cluster.namespace).get_opt(name).await
}

/// Every object, a page at a time.
async fn all<K: Clone + Debug + DeserializeOwned>(api: Api<K>) -> kube::Result<Vec<K>> {
    let (mut wanted, mut items) = (ListParams::default().limit(PAGE), Vec::new());
    loop {
        let page = api.list(&wanted).await?;
        items.extend(page.items);
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => wanted.continue_token = Some(next),
            None => return Ok(items),
        }
    }
}
