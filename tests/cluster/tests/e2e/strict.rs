//! Under STRICT, who is not of the mesh is refused, and who is of it is not.

use crate::{
    shop,
    stage::{LONG, Stage, timed},
};
use anyhow::{Result, ensure};

const NAMESPACE: &str = "strict";
const OUTSIDE: &str = "outside";

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    stage.namespace(OUTSIDE, false)?;
    shop::open(stage, NAMESPACE)?;
    shop::apply(stage, OUTSIDE, &(shop::client("here", "node-1") + &shop::client("there", "node-2")))?;
    stage.rolled_out(OUTSIDE)?;
    let to = format!("{}:8080", stage.pod_address(NAMESPACE, "near")?);
    let ask = |namespace: &str, who: &str| {
        let answer = stage.app(namespace, &format!("deployment/{who}"), &["get", &to, "--patience", "3"])?;
        anyhow::Ok(answer["ok"] == true)
    };
    let outside = |served: bool| {
        for who in ["here", "there"] {
            ensure!(
                ask(OUTSIDE, who)? == served,
                "{who}, of no mesh, is {}served",
                if served { "not " } else { "" }
            );
        }
        ensure!(ask(NAMESPACE, "web")?, "web, of the mesh, is refused");
        Ok(())
    };
    timed(LONG, || outside(true))?;
    shop::apply(stage, NAMESPACE, STRICT)?;
    let refused = timed(LONG, || outside(false))?;
    stage.cluster.kubectl(&["delete", "peerauthentication", "strict", "--namespace", NAMESPACE])?;
    let again = timed(LONG, || outside(true))?;
    Ok(format!(
        "plaintext refused {:.1} s after STRICT came, served {:.1} s after it went",
        refused.as_secs_f64(),
        again.as_secs_f64()
    ))
}

/// Nobody comes in without an identity.
pub const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict}
spec: {mtls: {mode: STRICT}}
";
