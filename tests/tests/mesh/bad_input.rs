//! Bad input: each piece of it is named, with the mend, and nothing else stops.

use crate::stage::{DIRECT, SOON, TUNNEL, Way, fails_with, well};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{fs, io::Write, net::SocketAddr, time::Duration};
use weft_tests::{Mesh, binaries, eventually, require_kernel};

/// Refused on the node by `50-policies.yaml`.
const DENIED: Way = Way { path: "direct", from: "bookshop/reviews", to: "bookshop/payments" };

/// What `weft-control check` finds in the directory that control reads, and whether it calls that a failure.
fn check(mesh: &Mesh) -> Result<(bool, Vec<Value>)> {
    let directory = mesh.control.manifests.to_str().context("a path is not UTF-8")?;
    let args = ["check", directory, "--output", "json"];
    let output =
        mesh.cluster.control.output(binaries::find("weft-control")?, &args, Duration::from_secs(10))?;
    let findings = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((!output.status.success(), findings))
}

/// What is wrong: severity, file, object's name, field, and a part of the message.
pub type Expected<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

/// The check finds this, and the running control says the same in its log, with the mend.
pub fn finds(mesh: &mut Mesh, (severity, file, object, field, message): Expected<'_>) -> Result<()> {
    let (failed, findings) = check(mesh)?;
    let is_it = |finding: &&Value| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        finding["object"]["name"].as_str().unwrap_or_default() == object
            && (text("severity"), text("field")) == (severity, field)
            && text("file").ends_with(file)
            && text("message").contains(message)
    };
    let found = findings.iter().find(is_it).with_context(|| json!(findings).to_string())?;
    let mend = found["mend"].as_str().unwrap_or_default();
    ensure!(!mend.is_empty(), "{found}");
    ensure!(failed == (severity == "error"), "the exit status of check says {failed}");
    mesh.control.process().wait_for_line(SOON, |line| {
        [file, object, field, message, mend].iter().all(|part| line.contains(part))
    })?;
    Ok(())
}

/// The mesh serves what it served, and hears of what is new.
fn serves(mesh: &Mesh) -> Result<()> {
    for way in [TUNNEL, DIRECT] {
        for to in way.targets(mesh, 8080)? {
            well(&format!("{} → {to}", way.from), &way.call(mesh, &["get", &to.to_string()])?)?;
        }
    }
    for to in DENIED.targets(mesh, 8080)? {
        fails_with("reviews → payments", &DENIED.call(mesh, &["get", &to.to_string()])?, &["EACCES"])?;
    }
    Ok(())
}

/// A label on a pod, written and waited for: proof that control still reads what is good.
pub fn hears(mesh: &Mesh, name: &str) -> Result<()> {
    crate::stage::authorize(mesh, name, "web", "ALLOW", "{}")?;
    crate::stage::await_policy(mesh, name, true)?;
    mesh.control.delete(&format!("{name}.yaml"))?;
    crate::stage::await_policy(mesh, name, false)
}

#[test]
fn a_bad_object_is_set_aside_and_its_last_good_version_holds() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("bad")?;
    let good = fs::read_to_string(mesh.control.manifests.join("50-policies.yaml"))?;
    let syntax = format!("{good}---\n{{ this is not: [YAML\n");
    let bad_type = good.replace("namespaces: [bookshop]", "namespaces: bookshop");
    ensure!(bad_type != good, "the example has changed");
    mesh.control.apply("50-policies.yaml", &syntax)?;
    finds(&mut mesh, ("error", "50-policies.yaml", "", "", "document 5 is not YAML"))?;
    serves(&mesh)?;
    hears(&mesh, "after-syntax")?;
    mesh.control.apply("50-policies.yaml", &bad_type)?;
    finds(
        &mut mesh,
        (
            "error",
            "50-policies.yaml",
            "payments-callers",
            "spec.rules[0].from[0].source.namespaces",
            "invalid type",
        ),
    )?;
    serves(&mesh)?;
    hears(&mesh, "after-type")?;
    mesh.control.apply("50-policies.yaml", &good)?;
    mesh.control.process().wait_for_line(SOON, |line| line.contains("mended or gone"))?;
    serves(&mesh)
}

#[test]
fn unknown_fields_idle_policies_and_empty_services_are_named_and_harm_nothing() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("odd")?;
    let policy = |spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: odd, namespace: bookshop}}\nspec: {spec}\n"
        )
    };
    mesh.control
        .apply("odd.yaml", &policy("{selector: {matchLabels: {app: nobody}}, action: DENY, rules: [{}]}"))?;
    finds(&mut mesh, ("warning", "odd.yaml", "odd", "spec.selector", "selects no pod"))?;
    serves(&mesh)?;
    // A misspelt field of a policy would make it say something else: the version before it stays in force.
    mesh.control
        .apply("odd.yaml", &policy("{selector: {matchLabels: {app: web}}, acton: DENY, rules: [{}]}"))?;
    finds(&mut mesh, ("error", "odd.yaml", "odd", "spec.acton", "unknown field"))?;
    serves(&mesh)?;
    mesh.control.delete("odd.yaml")?;
    mesh.control.apply(
        "empty.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: empty, namespace: bookshop}\n\
         spec: {type: ClusterIP, clusterIP: 10.30.0.99, clusterIPs: [10.30.0.99, 'fd30::99'], \
         ipFamilies: [IPv4, IPv6], selector: {app: nobody}, ports: [{name: http, port: 80, targetPort: 8080}], cheap: true}\n",
    )?;
    finds(&mut mesh, ("warning", "empty.yaml", "empty", "spec.cheap", "no such field"))?;
    finds(
        &mut mesh,
        ("warning", "empty.yaml", "empty", "spec.selector", "no pod stands behind the service"),
    )?;
    for to in ["10.30.0.99:80", "[fd30::99]:80"] {
        let to: SocketAddr = to.parse()?;
        eventually(SOON, || {
            let got = mesh.get("bookshop/web", to)?;
            fails_with("a service without endpoints", &got, &["ECONNRESET", "ECONNREFUSED", "EHOSTUNREACH"])
        })?;
        let told =
            mesh.agents["node-a"].ask(&["explain", "--from", "bookshop/web", "--to", &to.to_string()])?;
        ensure!(told["verdict"] == "failed" && told["reason"] == "no_healthy_endpoint", "{told}");
    }
    serves(&mesh)
}

#[test]
fn an_address_belongs_to_its_first_owner() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mut mesh = Mesh::bookshop("thief")?;
    let reviews = fs::read_to_string(mesh.control.manifests.join("32-reviews.yaml"))?;
    let pod = reviews.split("---\n").find(|document| document.contains("kind: Pod")).context("no pod")?;
    let thief = pod
        .replace("name: reviews", "name: thief")
        .replace("serviceAccountName: reviews", "serviceAccountName: thief")
        .replace("app: reviews", "app: thief")
        .replace("000000000012", "000000000099");
    mesh.control.apply("90-thief.yaml", &thief)?;
    let (failed, findings) = check(&mesh)?;
    ensure!(failed && findings.iter().any(|f| f["object"]["name"] == "thief"), "{}", json!(findings));
    mesh.control
        .process()
        .wait_for_line(SOON, |line| line.contains("thief") && line.contains("10.20.2.12"))?;
    serves(&mesh)?;
    for agent in mesh.agents.values() {
        let workloads = agent.list(&["workloads"])?;
        let owner =
            workloads.iter().find(|w| w["addresses"].to_string().contains("10.20.2.12")).context("none")?;
        ensure!(owner["name"] == "reviews", "{owner}");
    }
    Ok(())
}

#[test]
fn a_file_that_is_being_written_takes_nothing_away() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("writing")?;
    let file = mesh.control.manifests.join("50-policies.yaml");
    let whole = fs::read_to_string(&file)?;
    // In the middle of a list, of its second object of four.
    let cut = whole.find("[bookshop").context("the example has changed")? + 5;
    let mut writing = fs::File::create(&file)?;
    writing.write_all(&whole.as_bytes()[..cut])?;
    // For as long as that takes.
    hears(&mesh, "meanwhile")?;
    serves(&mesh)?;
    writing.write_all(&whole.as_bytes()[cut..])?;
    drop(writing);
    hears(&mesh, "afterwards")?;
    serves(&mesh)
}

#[test]
fn a_process_with_an_unknown_setting_says_which_and_does_not_start() -> Result<()> {
    if !require_kernel() {
        return Ok(());
    }
    let mesh = Mesh::bookshop("settings")?;
    let file = mesh.cluster.run.directory().join("odd.yaml");
    let path = file.to_str().context("a path is not UTF-8")?;
    for (program, args) in
        [("weft-agent", ["run", "--config", path]), ("weft-control", ["run", "--config", path])]
    {
        fs::write(&file, "nodde: 1\n")?;
        let place = &mesh.cluster.control.place;
        let output = place.output(binaries::find(program)?, &args, Duration::from_secs(10))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{program} ended well");
        ensure!(said.contains("odd.yaml") && said.contains("nodde"), "{program} said {said:?}");
    }
    Ok(())
}
