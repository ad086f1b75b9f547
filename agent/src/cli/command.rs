//! The commands and their flags.

use super::output::Output;
use crate::{admin::proto::FlowsRequest, config::ConfigArgs};
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// Weft's node agent: carries the connections of the meshed pods on this node, and shows what it does.
#[derive(Parser, Debug)]
#[command(name = "weft-agent", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// How to print: a table for people, or json or yaml for programs.
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// The socket of the agent to ask. Found by itself where one agent runs.
    #[arg(long, global = true, env = "WEFT_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The node whose agent to ask, where several run on one machine, or with --kube of the cluster.
    #[arg(long, global = true, env = "WEFT_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Ask the agents of a cluster, every node's or that of --node, through the Kubernetes API.
    #[arg(long, global = true)]
    pub kube: bool,
    /// With --kube: the context of the kubeconfig, in place of the current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// With --kube: the kubeconfig, in place of $KUBECONFIG and ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// With --kube: the namespace that Weft is installed in.
    #[arg(long, global = true, value_name = "NAME", default_value = "weft-system")]
    pub kube_namespace: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the agent in the foreground.
    #[command(after_help = "Example:\n  weft-agent run --config /etc/weft/agent.yaml")]
    Run(Box<ConfigArgs>),
    /// The process that `run` starts, and starts again when it dies.
    #[command(hide = true)]
    Worker(Box<ConfigArgs>),
    /// What `run` becomes in the place of one that died; its worker is at the standard input.
    #[command(hide = true)]
    Keeper(Box<ConfigArgs>),
    /// Joins the standard streams with the agent's socket, for --kube.
    #[command(hide = true)]
    Pipe,
    /// Tell whether the agent is ready, in touch with control, and which pods it carries.
    #[command(
        after_help = "Examples:\n  weft-agent status\n  weft-agent status --node node-1 --output json\n  weft-agent --kube status"
    )]
    Status,
    /// Succeed if the agent is ready, and fail with what it waits for otherwise.
    #[command(after_help = "Example:\n  weft-agent ready")]
    Ready,
    /// List the workloads that the agent knows, of the whole mesh.
    #[command(
        after_help = "Examples:\n  weft-agent workloads\n  weft-agent workloads -o json | jq '.[].name'"
    )]
    Workloads,
    /// List the services that the agent knows, and their endpoints.
    #[command(after_help = "Example:\n  weft-agent services")]
    Services,
    /// List the policies that the agent knows, and what they say.
    #[command(after_help = "Example:\n  weft-agent policies")]
    Policies,
    /// List the certificates of this node's identities.
    #[command(after_help = "Example:\n  weft-agent certificates")]
    Certificates,
    /// List the connections that live now, or close one.
    #[command(after_help = "\
Examples:
  weft-agent connections
  weft-agent connections --close 769
  weft-agent connections --older
  weft-agent --kube connections --older --pod shop/web-0
  weft-agent connections --older --pod shop/web-0 --reset --yes")]
    Connections(ConnectionsArgs),
    /// Show who talked to whom lately, or as it happens.
    #[command(after_help = "\
Examples:
  weft-agent flows --follow
  weft-agent flows --from shop/web-0 --verdict denied
  weft-agent flows --follow --to db.shop.svc.cluster.local -o json")]
    Flows(FlowsArgs),
    /// Explain what would become of a connection: which path, which policy decides, and why.
    #[command(after_help = "\
Examples:
  weft-agent explain --from shop/web-0 --to db:80
  weft-agent explain --from shop/web-0 --to db.shop.svc.cluster.local:80
  weft-agent explain --from shop/web-0 --to shop/db-0:5432
  weft-agent explain --from shop/web-0 --to [fd00::7]:443")]
    Explain {
        /// The client's pod, namespace/name.
        #[arg(long, value_name = "POD")]
        from: String,
        /// Where to: an IP address, a pod (namespace/name) or a service, with a port.
        #[arg(long, value_name = "HOST:PORT")]
        to: String,
    },
    /// Print everything the agent holds, as JSON (or YAML).
    #[command(after_help = "Example:\n  weft-agent config-dump | jq .policies")]
    ConfigDump,
    /// Show what the agent logs, or change it while it runs.
    #[command(
        after_help = "Examples:\n  weft-agent log\n  weft-agent log debug\n  weft-agent log info,weft_agent=trace"
    )]
    Log {
        /// A level (error, warn, info, debug, trace, off), or levels by module.
        #[arg(value_name = "LEVEL")]
        directives: Option<String>,
    },
    /// Show the kernel programs and maps, their sizes and drops.
    #[command(after_help = "Example:\n  weft-agent bpf")]
    Bpf,
    /// Look whether this machine, or with --kube a cluster, has what Weft needs, and say what is missing.
    #[command(after_help = "\
Examples:
  sudo weft-agent check
  weft-agent --kube check               before an install, and after one
  weft-agent --kube check --installed   only what is installed")]
    Check {
        /// With --kube: look only at what is installed, which takes fewer permissions.
        #[arg(long)]
        installed: bool,
    },
    /// Take everything of Weft off this node, or with --kube off every node: programs, pins, listeners, routes, state.
    ///
    /// The agent stops and does not carry connections any more; those that it carries have the usual time to end. Pods go on
    /// without the mesh. An agent that is started afterwards installs itself again.
    #[command(after_help = "\
Examples:
  weft-agent uninstall --node node-1 --yes   on a machine whose agent is stopped for good
  weft-agent --kube uninstall --yes          what `helm uninstall` does before it deletes anything")]
    Uninstall {
        /// Do it.
        #[arg(long)]
        yes: bool,
        /// As the agent was told.
        #[command(flatten)]
        config: Box<ConfigArgs>,
    },
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  weft-agent completions bash > /etc/bash_completion.d/weft-agent")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Which connections, and what is to become of them.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ConnectionsArgs {
    /// Close the connection of this id instead.
    #[arg(long, value_name = "ID", conflicts_with = "older")]
    pub close: Option<u64>,
    /// List those that pods had open when they came into the mesh or left it: nothing protects them, no policy judges them.
    #[arg(long)]
    pub older: bool,
    /// With --older: only those of this pod (namespace/name).
    #[arg(long, value_name = "POD", requires = "older")]
    pub pod: Option<String>,
    /// With --older and --pod: reset them; whoever connects again does so as the mesh has it.
    #[arg(long, requires = "pod")]
    pub reset: bool,
    /// With --reset: do it.
    #[arg(long, requires = "reset")]
    pub yes: bool,
}

/// Which flows.
#[derive(clap::Args, Clone, Debug)]
pub struct FlowsArgs {
    /// Go on, printing flows as they happen, until interrupted.
    #[arg(long, short)]
    pub follow: bool,
    /// Only those from this pod (namespace/name), name, namespace or IP address.
    #[arg(long, value_name = "WHO")]
    pub from: Option<String>,
    /// Only those to this pod (namespace/name), service, name, namespace or IP address.
    #[arg(long, value_name = "WHO")]
    pub to: Option<String>,
    /// Only those with this outcome.
    #[arg(long, value_enum)]
    pub verdict: Option<FlowVerdict>,
}

impl From<FlowsArgs> for FlowsRequest {
    fn from(args: FlowsArgs) -> Self {
        Self {
            follow: args.follow,
            from: args.from.unwrap_or_default(),
            to: args.to.unwrap_or_default(),
            verdict: args.verdict.map(|v| v.as_str().to_owned()).unwrap_or_default(),
        }
    }
}

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlowVerdict {
    /// It was let through.
    Allowed,
    /// A policy refused or closed it.
    Denied,
    /// It failed for another reason.
    Failed,
}

impl FlowVerdict {
    /// The word of the admin interface.
    pub fn as_str(self) -> &'static str {
        match self {
            FlowVerdict::Allowed => "allowed",
            FlowVerdict::Denied => "denied",
            FlowVerdict::Failed => "failed",
        }
    }
}
