//! A rollout of the servers under load loses no connection: those that end are left in time.

use crate::{
    shop,
    stage::{self, Stage},
};
use anyhow::{Result, ensure};

const NAMESPACE: &str = "rolling";

pub fn run(stage: &Stage) -> Result<String> {
    stage.namespace(NAMESPACE, true)?;
    shop::open(stage, NAMESPACE)?;
    let mut told = Vec::new();
    for server in ["near", "far"] {
        let to = format!("{}:7000", stage.service_address(NAMESPACE, server)?);
        let args = ["connections", &to, "--seconds", "25", "--rate", "50", "--in-flight", "4"];
        let load = stage.load(NAMESPACE, "deployment/web", &args)?;
        let deployment = format!("deployment/{server}");
        stage.cluster.kubectl(&["rollout", "restart", &deployment, "--namespace", NAMESPACE])?;
        stage.rolled_out(NAMESPACE)?;
        let result = load.result()?;
        ensure!(stage::failures(&result) == 0, "{server}: {result}");
        told.push(format!("{server}: {} connections, none lost", result["connections"]));
    }
    Ok(told.join("; "))
}
