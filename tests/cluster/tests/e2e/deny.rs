//! A policy that names a service account refuses it, on a node and between nodes, and lets others through.

use crate::{
    shop,
    stage::{LONG, Stage, timed},
};
use anyhow::{Result, ensure};

const NAMESPACE: &str = "guarded";

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    shop::apply(stage, NAMESPACE, &shop::client("other", "node-1"))?;
    stage.rolled_out(NAMESPACE)?;
    let allowed = |who: &str, server: &str| {
        let to = format!("{}:8080", stage.service_address(NAMESPACE, server)?);
        let answer = stage.app(NAMESPACE, &format!("deployment/{who}"), &["get", &to, "--patience", "3"])?;
        anyhow::Ok(answer["ok"] == true)
    };
    let everybody = |web: bool| {
        for server in ["near", "far"] {
            ensure!(
                allowed("web", server)? == web,
                "web and {server}: not {}",
                if web { "allowed" } else { "refused" }
            );
            ensure!(allowed("other", server)?, "other is refused by {server}");
        }
        Ok(())
    };
    timed(LONG, || everybody(true))?;
    shop::apply(stage, NAMESPACE, DENY)?;
    let refused = timed(LONG, || everybody(false))?;
    stage.cluster.kubectl(&["delete", "authorizationpolicy", "no-web", "--namespace", NAMESPACE])?;
    let again = timed(LONG, || everybody(true))?;
    Ok(format!(
        "refused {:.1} s after the policy came, served {:.1} s after it went",
        refused.as_secs_f64(),
        again.as_secs_f64()
    ))
}

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-web}
spec:
  action: DENY
  rules:
    - from: [{source: {principals: [cluster.local/ns/guarded/sa/web]}}]
";
