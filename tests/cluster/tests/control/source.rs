//! Objects: the first state, changes, gaps, what is forbidden or missing.

use crate::{
    manifests::POLICY,
    stage::{Stage, until},
};
use anyhow::{Result, ensure};

#[test]
fn objects_come_and_go_and_a_gap_takes_nothing_away() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    let mut control = stage.control("one", &[])?;
    let node = stage.node("n1", &control)?;
    node.until("both pods", |s| s.workloads().count() == 2);

    stage.kubectl().apply(POLICY)?;
    node.until("the policy selects", |s| s.workloads().any(|w| &*w.name == "db" && !w.policies.is_empty()));
    // A version that cannot be read changes nothing, and is named.
    stage.kubectl().apply(&POLICY.replace("serviceAccounts", "serviceAcounts"))?;
    control.until_found(&["p: error", "spec.rules[0].from[0].source", "stays in force"])?;
    ensure!(node.knows("db"));
    stage.kubectl().apply(POLICY)?;
    control.until("mended", |r| Ok(!r.findings()?.iter().any(|f| f.starts_with("p: "))))?;

    // A Job's pod that ran to its end is gone to the mesh.
    stage.pod("job", "web", "n1", "10.0.0.3")?;
    node.until("the job", |s| s.workloads().count() == 3);
    let done = r#"{"status":{"phase":"Succeeded"}}"#;
    stage.kubectl().run(&["patch", "pod", "job", "-n", "shop", "--subresource=status", "-p", done])?;
    node.until("the job is over", |s| s.workloads().count() == 2);

    // The API goes away, and things change before it is back: the difference is told, nothing else.
    node.told();
    stage.api.stop_api()?;
    control.until_found(&["does not answer", "stays in force"])?;
    ensure!(node.knows("web") && node.knows("db"));
    ensure!(node.told().is_empty(), "the API's absence told the node something");
    ensure!(control.get("/readyz")?.starts_with("ready"));
    stage.api.start_api()?;
    stage.kubectl().run(&["delete", "pod", "db", "-n", "shop", "--force", "--grace-period=0"])?;
    stage.pod("db2", "db", "n2", "10.0.0.4")?;
    node.until("the new pod", |s| s.workloads().any(|w| &*w.name == "db2"));
    node.until("the old one is gone", |s| s.workloads().count() == 2);
    control
        .until("the finding ends", |r| Ok(!r.findings()?.iter().any(|f| f.contains("does not answer"))))?;
    let told = node.told();
    ensure!(told.len() <= 4, "more than the difference: {told:?}");
    Ok(())
}

#[test]
fn a_relist_after_history_is_gone_yields_the_difference() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("web", "web", "n1", "10.0.0.1")?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    let mut control = stage.control("one", &[])?;
    let node = stage.node("n1", &control)?;
    node.until("both pods", |s| s.workloads().count() == 2);
    node.told();
    // While control cannot ask, a pod goes, and the API forgets what it remembered of that: a restart empties the cache of
    // watches, which begins anew with the present.
    control.process.signal(nix::sys::signal::Signal::SIGSTOP)?;
    stage.kubectl().run(&["delete", "pod", "db", "-n", "shop", "--force", "--grace-period=0"])?;
    stage.api.stop_api()?;
    stage.api.start_api()?;
    stage.pod("db3", "db", "n2", "10.0.0.5")?;
    control.process.signal(nix::sys::signal::Signal::SIGCONT)?;
    node.until("the old one is gone, the new one there", |s| {
        s.workloads().count() == 2 && s.workloads().any(|w| &*w.name == "db3")
    });
    ensure!(node.told().len() <= 3);
    let log = control.process.log()?;
    ensure!(log.contains("is listed again"), "the API remembered everything, so this tested nothing: {log}");
    control.until("still ready", |r| Ok(r.get("/readyz")?.starts_with("ready")))
}

#[test]
fn missing_types_are_waited_for() -> Result<()> {
    let stage = Stage::bare()?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    let mut control = stage.control("one", &[])?;
    control.until_found(&[
        "info",
        "the cluster has no security.istio.io/v1 authorizationpolicies",
        "install",
    ])?;
    stage.install_policies()?;
    stage.kubectl().apply(POLICY)?;
    let node = stage.node("n1", &control)?;
    node.until("the policy", |s| s.policies().count() == 1);
    control.until("the finding ends", |r| Ok(!r.findings()?.iter().any(|f| f.contains("the cluster has no"))))
}

#[test]
fn policies_are_read_in_the_version_that_the_cluster_serves() -> Result<()> {
    let stage = Stage::bare()?;
    stage.serve_policies(&[("v1beta1", true)])?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    let old = POLICY.replace("security.istio.io/v1", "security.istio.io/v1beta1");
    stage.kubectl().apply(&old)?;
    let mut control = stage.control("one", &[])?;
    let node = stage.node("n1", &control)?;
    node.until("the policy", |s| s.policies().count() == 1);
    let none =
        |r: &crate::stage::Replica| Ok(!r.findings()?.iter().any(|f| f.contains("authorizationpolicies")));
    control.until("nothing is wrong", none)?;
    // What is wrong is said at the object, in its version.
    stage.kubectl().apply(&old.replace("serviceAccounts", "serviceAcounts"))?;
    let reason =
        ["get", "authorizationpolicy", "p", "-n", "shop", "-o", "jsonpath={.status.conditions[*].reason}"];
    until("the condition says it", || {
        ensure!(stage.kubectl().run(&reason)?.contains("Rejected"));
        Ok(())
    })?;
    stage.kubectl().apply(&old)?;

    // The types are upgraded, and the old version is served no more.
    node.told();
    stage.serve_policies(&[("v1", true), ("v1beta1", true)])?;
    stage.serve_policies(&[("v1", true), ("v1beta1", false)])?;
    until("control reads the new version", || {
        ensure!(control.process.log()?.contains(
            "the cluster serves the kind in another version kind=\"AuthorizationPolicy\" version=\"v1\""
        ));
        Ok(())
    })?;
    stage.kubectl().apply(&POLICY.replace("name: p,", "name: p2,"))?;
    node.until("another policy", |s| s.policies().count() == 2);
    control.until("nothing is wrong", none)?;
    let told = node.told();
    ensure!(
        !told.iter().any(|d| matches!(d, weft_model::Delta::PolicyGone(_))),
        "a policy was taken away: {told:?}"
    );
    Ok(())
}

#[test]
fn policies_go_with_their_type_and_only_when_it_is_seen_to_be_gone() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    stage.kubectl().apply(POLICY)?;
    let mut control = stage.control("one", &[])?;
    let node = stage.node("n1", &control)?;
    node.until("the policy", |s| s.policies().count() == 1);
    // Control may not see types any more, and is away while this one goes.
    let edit = |keep: bool| -> Result<()> {
        let rules = stage.kubectl().json(&["get", "clusterrole", "weft-control"])?["rules"].clone();
        let rule = serde_json::json!({"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["get"]});
        let mut rules: Vec<_> = rules.as_array().cloned().unwrap_or_default();
        rules.retain(|r| !r["resources"].to_string().contains("customresourcedefinitions"));
        rules.extend(keep.then_some(rule));
        let patch = serde_json::json!({"rules": rules}).to_string();
        stage.kubectl().run(&["patch", "clusterrole", "weft-control", "--type=merge", "-p", &patch]).map(drop)
    };
    edit(false)?;
    let signal = |signal| control.process.signal(signal);
    signal(nix::sys::signal::Signal::SIGSTOP)?;
    // The watch that was open tells nothing of what comes.
    stage.api.stop_api()?;
    stage.api.start_api()?;
    let definition = "crd/authorizationpolicies.security.istio.io";
    stage.kubectl().run(&["delete", definition, "--wait=true"])?;
    signal(nix::sys::signal::Signal::SIGCONT)?;
    control.until_found(&[
        "error",
        "whether their type is gone cannot be seen",
        "stays in force",
        r#"["customresourcedefinitions"]"#,
    ])?;
    node.until("the policy stays", |s| s.policies().count() == 1);
    edit(true)?;
    node.until("the policy is gone", |s| s.policies().count() == 0);
    control.until_found(&[
        "warning",
        "authorizationpolicies.security.istio.io was deleted",
        "nothing is in force of them",
    ])?;
    ensure!(control.get("/readyz")?.starts_with("ready"));
    // They come back with it.
    stage.install_policies()?;
    stage.kubectl().apply(POLICY)?;
    node.until("the policy is back", |s| s.policies().count() == 1);
    control.until("the finding ends", |r| Ok(!r.findings()?.iter().any(|f| f.contains("was deleted"))))
}

#[test]
fn a_forbidden_kind_is_named_and_nothing_is_told_before_it_is_known() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    stage.kubectl().apply(POLICY)?;
    // The account loses what it needs for policies.
    let role = ["clusterrole", "weft-control", "-o", "json"];
    let whole = stage.kubectl().run(&[&["get"], &role[..]].concat())?;
    let mut less: serde_json::Value = serde_json::from_str(&whole)?;
    let rules = less["rules"].as_array_mut().unwrap();
    rules.retain(|rule| !rule["resources"].to_string().contains("authorizationpolicies\""));
    less["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    stage.kubectl().apply(&less.to_string())?;
    let mut control = stage.unready_control("one", &[])?;
    let said = until("the log names the rule", || {
        let log = control.process.log()?;
        ensure!(log.contains("control may not list authorizationpolicies"), "{log}");
        Ok(log)
    })?;
    ensure!(said.contains(r#"apiGroups: ["security.istio.io"]"#), "{said}");
    ensure!(!control.get("/readyz")?.starts_with("ready"), "a mesh without its policies was told");
    let mut more: serde_json::Value = serde_json::from_str(&whole)?;
    more["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    stage.kubectl().apply(&more.to_string())?;
    control.until("ready", |r| Ok(r.get("/readyz")?.starts_with("ready")))?;
    let node = stage.node("n1", &control)?;
    node.until("the policy", |s| s.policies().count() == 1);
    Ok(())
}

#[test]
fn what_is_wrong_is_said_at_the_object_until_it_is_mended() -> Result<()> {
    let stage = Stage::new()?;
    stage.pod("db", "db", "n2", "10.0.0.2")?;
    let _one = stage.control("one", &[])?;
    let _two = stage.control("two", &[])?;
    stage.kubectl().apply(&POLICY.replace("serviceAccounts", "serviceAcounts"))?;
    let condition = || -> Result<(String, String)> {
        let policy = stage.kubectl().json(&["get", "authorizationpolicy", "p", "-n", "shop"])?;
        let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let own = conditions.iter().find(|c| c["type"] == "WeftAccepted").cloned().unwrap_or_default();
        let text = |field: &str| own[field].as_str().unwrap_or_default().to_owned();
        Ok((text("reason"), text("message")))
    };
    until("the condition says it", || {
        let (reason, message) = condition()?;
        ensure!(reason == "Rejected" && !message.is_empty(), "{reason}: {message}");
        Ok(())
    })?;
    let events = || -> Result<Vec<String>> {
        let all = ["get", "events.events.k8s.io", "-n", "shop"];
        let list = stage.kubectl().json(&all)?;
        let of_policy = |e: &&serde_json::Value| e["regarding"]["name"] == "p";
        let notes = list["items"].as_array().into_iter().flatten().filter(of_policy);
        Ok(notes.map(|e| e["note"].as_str().unwrap_or_default().to_owned()).collect())
    };
    let said = until("an Event says it", || {
        let said = events()?;
        ensure!(said.iter().any(|note| note.contains("unknown field `serviceAcounts`")), "{said:?}");
        Ok(said)
    })?;
    // One replica says it, and once.
    let mut once = said.clone();
    once.dedup();
    ensure!(said == once, "{said:?}");
    let described = stage.kubectl().run(&["describe", "authorizationpolicy", "p", "-n", "shop"])?;
    ensure!(described.contains("WeftRejected"), "{described}");

    stage.kubectl().apply(POLICY)?;
    until("the condition says that it is mended", || {
        ensure!(condition()?.0 == "Accepted");
        Ok(())
    })?;
    ensure!(events()? == said, "an Event was written about nothing");
    Ok(())
}
