//! What many agents answer, as one.

use super::{
    agents::{Agent, Cluster},
    error::KubeError,
    tunnel::{self, Tunnel},
};
use crate::{
    admin::proto::Status,
    cli::{
        client::{CliError, Client},
        output::{Output, Row, columns},
        show::Show,
    },
};
use futures::{StreamExt, stream};
use serde::Serialize;
use std::{collections::BTreeMap, io::Write, time::Duration};

/// Agents asked at the same time; each is a stream through the API server.
const AT_ONCE: usize = 16;
/// How long one of them may take for its whole answer; an uninstall waits for a drain.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers by node. Those that failed do not hide the others.
#[derive(Debug, Serialize)]
pub struct Answers<T> {
    /// What was answered.
    pub nodes: BTreeMap<String, T>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, String>,
}

/// Asks each of `agents`.
pub async fn each<T, F>(cluster: &Cluster, agents: &[Agent], ask: F) -> Answers<T>
where
    F: AsyncFn(Client) -> Result<T, tonic::Status>,
{
    gather(agents, async |agent: &Agent| {
        let tunnel = Tunnel::open(cluster, &agent.pod).await?;
        match ask(tunnel.client.clone()).await {
            Ok(answer) => Ok(answer),
            Err(status) => Err(tunnel.why(&status).await),
        }
    })
    .await
}

/// Runs a command in the container of each of `agents`; what it printed.
pub async fn run(cluster: &Cluster, agents: &[Agent], command: &[&str]) -> Answers<String> {
    gather(agents, async |agent: &Agent| tunnel::run(cluster, &agent.pod, command).await).await
}

async fn gather<T, F>(agents: &[Agent], ask: F) -> Answers<T>
where
    F: AsyncFn(&Agent) -> Result<T, String>,
{
    let answers = stream::iter(agents).map(async |agent| {
        let answer = match &agent.problem {
            Some(problem) => Err(problem.clone()),
            None => tokio::time::timeout(PATIENCE, ask(agent))
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        (agent.node.clone(), answer)
    });
    let (mut nodes, mut errors) = (BTreeMap::new(), BTreeMap::new());
    let mut answers = std::pin::pin!(answers.buffer_unordered(AT_ONCE));
    while let Some((node, answer)) = answers.next().await {
        match answer {
            Ok(answer) => drop(nodes.insert(node, answer)),
            Err(error) => drop(errors.insert(node, error)),
        }
    }
    Answers { nodes, errors }
}

impl<T: Serialize> Answers<T> {
    /// The same answers in another form.
    pub fn map<U>(self, to: impl Fn(T) -> U) -> Answers<U> {
        let nodes = self.nodes.into_iter().map(|(node, answer)| (node, to(answer))).collect();
        Answers { nodes, errors: self.errors }
    }

    /// Prints answers that have no table.
    pub fn data(self, output: Output, out: &mut impl Write) -> Result<(), CliError> {
        output.data(&self, out)?;
        self.finish()
    }

    /// Prints each answer below the name of its node.
    pub fn one(self, output: Output, out: &mut impl Write) -> Result<(), CliError>
    where
        T: Show,
    {
        if !matches!(output, Output::Table) {
            return self.data(output, out);
        }
        for (n, (node, answer)) in self.nodes.iter().enumerate() {
            let gap = if n > 0 { "\n" } else { "" };
            write!(out, "{gap}{node}:\n{}", answer.show())?;
        }
        self.finish()
    }

    /// Fails if one of them did.
    pub fn finish(self) -> Result<(), CliError> {
        match self.errors.is_empty() {
            true => Ok(()),
            false => Err(KubeError::Nodes(self.errors.into_iter().collect()).into()),
        }
    }
}

impl<T: Row + Serialize> Answers<Vec<T>> {
    /// Prints all lists as one. What every node says alike stands there once.
    pub fn list(self, output: Output, out: &mut impl Write) -> Result<(), CliError> {
        if !matches!(output, Output::Table) {
            return self.data(output, out);
        }
        out.write_all(self.table().as_bytes())?;
        self.finish()
    }

    fn table(&self) -> String {
        let mut rows: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
        let mut known: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for (node, items) in &self.nodes {
            for cells in items.iter().map(Row::cells) {
                match known.get(&cells).and_then(|n| rows.get_mut(*n)) {
                    Some((_, nodes)) => nodes.push(node),
                    None => {
                        known.insert(cells.clone(), rows.len());
                        rows.push((cells, vec![node]));
                    }
                }
            }
        }
        if rows.is_empty() {
            return format!("{}\n", T::EMPTY);
        }
        let all = self.nodes.len();
        let rows = rows.into_iter().map(|(cells, nodes)| {
            let node = if all > 1 && nodes.len() == all { "all".to_owned() } else { nodes.join(",") };
            std::iter::once(node).chain(cells).collect()
        });
        let head: Vec<_> = std::iter::once("NODE").chain(T::HEAD.iter().copied()).collect();
        columns(Some(&head), rows)
    }
}

impl Answers<Status> {
    /// One line for each node; of a single one, all there is.
    pub fn status(self, output: Output, out: &mut impl Write) -> Result<(), CliError> {
        if !matches!(output, Output::Table) || self.nodes.len() == 1 && self.errors.is_empty() {
            return self.one(output, out);
        }
        let head =
            ["NODE", "READY", "VERSION", "CONTROL", "PODS", "GUARD", "CERTIFICATES", "CONNECTIONS", "LOST"];
        out.write_all(columns(Some(&head), self.nodes.iter().map(|(node, s)| line(node, s))).as_bytes())?;
        self.finish()
    }

    /// Whether all are ready.
    pub fn ready(self, out: &mut impl Write) -> Result<(), CliError> {
        let mut errors = self.errors;
        for (node, status) in self.nodes.into_iter().filter(|(_, s)| !s.ready) {
            errors.insert(node, format!("not ready, waiting for {}", status.waiting_for.join(", ")));
        }
        if errors.is_empty() {
            writeln!(out, "ready")?;
        }
        Answers::<()> { nodes: BTreeMap::new(), errors }.finish()
    }
}

fn line(node: &str, status: &Status) -> Vec<String> {
    let totals = status.totals.unwrap_or_default();
    let count = |state: &str| status.pods.iter().filter(|p| p.state == state).count();
    let failed = |n: usize| if n > 0 { format!(", {n} failed") } else { String::new() };
    let control = match status.control.as_ref() {
        Some(c) if c.connected => "connected",
        _ => "away",
    };
    vec![
        node.to_owned(),
        if status.ready { "yes".to_owned() } else { format!("no: {}", status.waiting_for.join(", ")) },
        status.version.clone(),
        control.to_owned(),
        format!("{}{}", count("enrolled"), failed(count("failed"))),
        guard(status),
        format!("{}{}", totals.certificates, failed(status.failing_certificates.len())),
        totals.connections.to_string(),
        status.drops.iter().map(|d| d.count).sum::<u64>().to_string(),
    ]
}

fn guard(status: &Status) -> String {
    let Some(guard) = &status.guard else { return "-".to_owned() };
    let standing = match (&*guard.mode, guard.cgroup.is_empty()) {
        ("off", _) => "off",
        (_, true) => "NOT ATTACHED",
        (mode, false) => mode,
    };
    let waiting = guard.waiting.len();
    if waiting > 0 { format!("{standing}, {waiting} waiting") } else { standing.to_owned() }
}

#[cfg(test)]
mod tests;
