use super::*;
use crate::admin::proto::{Certificate, Control, Guard, Totals};

fn certificate(identity: &str) -> Certificate {
    Certificate { identity: identity.into(), state: "valid".into(), ..Certificate::default() }
}

fn answers<T>(nodes: Vec<(&str, T)>, errors: &[(&str, &str)]) -> Answers<T> {
    Answers {
        nodes: nodes.into_iter().map(|(node, answer)| (node.to_owned(), answer)).collect(),
        errors: errors.iter().map(|(node, why)| ((*node).to_owned(), (*why).to_owned())).collect(),
    }
}

#[test]
fn rows_that_all_nodes_have_stand_once() {
    let (a, b) = (certificate("a"), certificate("b"));
    let lists = answers(vec![("n1", vec![a.clone(), b]), ("n2", vec![a])], &[]);
    let mut out = Vec::new();
    lists.list(Output::Table, &mut out).unwrap();
    let table = String::from_utf8(out).unwrap();
    let firsts: Vec<Vec<_>> = table.lines().map(|l| l.split_whitespace().take(2).collect()).collect();
    assert_eq!(firsts, [["NODE", "IDENTITY"], ["all", "a"], ["n1", "b"]], "{table}");
}

#[test]
fn a_node_that_fails_does_not_hide_the_others() {
    let lists = answers(vec![("n1", vec![certificate("a")])], &[("n2", "no answer")]);
    let mut out = Vec::new();
    let error = lists.list(Output::Json, &mut out).unwrap_err().to_string();
    assert_eq!(error, "n2: no answer");
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["nodes"]["n1"][0]["identity"], "a");
    assert_eq!(json["errors"]["n2"], "no answer");
}

#[test]
fn the_status_of_several_nodes_is_a_line_each() {
    let status = |ready| Status {
        ready,
        version: "0.1.0".into(),
        waiting_for: if ready { vec![] } else { vec!["pods".into()] },
        control: Some(Control { connected: ready, ..Control::default() }),
        guard: (!ready).then(|| Guard { mode: "mesh".into(), ..Guard::default() }),
        totals: Some(Totals { certificates: 3, connections: 7, ..Totals::default() }),
        ..Status::default()
    };
    let mut out = Vec::new();
    answers(vec![("n1", status(true)), ("n2", status(false))], &[]).status(Output::Table, &mut out).unwrap();
    let lines = String::from_utf8(out).unwrap();
    let lines: Vec<_> = lines.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines[1..],
        ["n1 yes 0.1.0 connected 0 - 3 7 0", "n2 no: pods 0.1.0 away 0 NOT ATTACHED 3 7 0"]
    );
}

#[test]
fn ready_is_who_is_so_everywhere() {
    let ready = |ready| Status { ready, waiting_for: vec!["control".into()], ..Status::default() };
    let mut out = Vec::new();
    answers(vec![("n1", ready(true))], &[]).ready(&mut out).unwrap();
    assert_eq!(out, b"ready\n");
    let error = answers(vec![("n1", ready(true)), ("n2", ready(false))], &[]).ready(&mut out).unwrap_err();
    assert_eq!(error.to_string(), "n2: not ready, waiting for control");
}
