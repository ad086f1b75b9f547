//! The admin interface itself.

use super::{
    Admin, AgentView, OlderError, convert, dump,
    explain::explain,
    flows::{self, Filter},
    proto::{
        Bpf, CertificateList, CloseRequest, ConfigDump, ConnectionList, Empty, ExplainRequest, Explanation,
        Flow, FlowsRequest, Log, LogRequest, OlderList, OlderRequest, OlderReset, PolicyList, ServiceList,
        Status as AgentStatus, WorkloadList, admin_server,
    },
    status,
};
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weft_io::telemetry::Path;
use weft_model::{Reason, clip};

/// Answers from an [`Admin`].
#[derive(Clone)]
pub struct Service {
    admin: Arc<Admin>,
}

impl Service {
    /// The service that answers from `admin`.
    pub fn new(admin: Arc<Admin>) -> Self {
        Self { admin }
    }
}

impl Service {
    /// Has the kernel asked, on a thread that may wait for it.
    async fn look<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn AgentView) -> Result<T, OlderError> + Send + 'static,
    ) -> Result<T, Status> {
        let agent = self.admin.agent.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&*agent)).await;
        asked.map_err(|e| Status::internal(e.to_string()))?.map_err(|e| Status::internal(e.to_string()))
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

#[tonic::async_trait]
impl admin_server::Admin for Service {
    async fn get_status(&self, _: Request<Empty>) -> Answer<AgentStatus> {
        answer(status::status(&self.admin))
    }

    async fn list_workloads(&self, _: Request<Empty>) -> Answer<WorkloadList> {
        let snapshot = self.admin.snapshots.load();
        let mut items: Vec<_> = snapshot.workloads().map(|w| convert::workload::workload(w)).collect();
        items.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
        answer(WorkloadList { items })
    }

    async fn list_services(&self, _: Request<Empty>) -> Answer<ServiceList> {
        let snapshot = self.admin.snapshots.load();
        let mut items: Vec<_> = snapshot.services().map(|s| convert::service::service(s)).collect();
        items.sort_by(|a, b| (&a.namespace, &a.hostname).cmp(&(&b.namespace, &b.hostname)));
        answer(ServiceList { items })
    }

    async fn list_policies(&self, _: Request<Empty>) -> Answer<PolicyList> {
        answer(PolicyList { items: convert::policy::policies(&self.admin.snapshots.load()) })
    }

    async fn list_certificates(&self, _: Request<Empty>) -> Answer<CertificateList> {
        let mut items: Vec<_> =
            self.admin.agent.certificates().iter().map(convert::certificate::certificate).collect();
        items.sort_by(|a, b| a.identity.cmp(&b.identity));
        answer(CertificateList { items })
    }

    async fn list_connections(&self, _: Request<Empty>) -> Answer<ConnectionList> {
        let mut live = self.admin.telemetry.connections.snapshot();
        live.sort_by_key(|c| c.started);
        answer(ConnectionList { items: live.iter().map(|c| convert::connection::connection(c)).collect() })
    }

    async fn close_connection(&self, request: Request<CloseRequest>) -> Answer<Empty> {
        let id = request.into_inner().id;
        let Some(connection) = self.admin.telemetry.connections.get(id) else {
            let error = format!("there is no connection {id}; `connections` lists those that live");
            return Err(Status::not_found(error));
        };
        if connection.with_facts(|f| matches!(f.path, Path::Direct)) {
            let error =
                format!("connection {id} is joined by the kernel: no proxy holds it; a policy can cut it");
            return Err(Status::failed_precondition(error));
        }
        connection.close(Reason::ClosedByOperator);
        answer(Empty {})
    }

    async fn list_older(&self, request: Request<OlderRequest>) -> Answer<OlderList> {
        let pod = request.into_inner().pod;
        let items = self.look(move |agent| agent.older(&pod)).await?;
        answer(OlderList { items })
    }

    async fn reset_older(&self, request: Request<OlderRequest>) -> Answer<OlderReset> {
        let pod = request.into_inner().pod;
        if !pod.contains('/') {
            return Err(Status::invalid_argument(format!(
                "`{}` does not name a pod: write NAMESPACE/NAME",
                clip(&pod)
            )));
        }
        answer(self.look(move |agent| agent.reset_older(&pod)).await?)
    }

    type WatchFlowsStream = ReceiverStream<Result<Flow, Status>>;

    async fn watch_flows(&self, request: Request<FlowsRequest>) -> Answer<Self::WatchFlowsStream> {
        let request = request.into_inner();
        let filter = Filter::new(&request)?;
        let flows = flows::stream(self.admin.telemetry.clone(), filter, request.follow);
        answer(ReceiverStream::new(flows))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Answer<Explanation> {
        let ExplainRequest { from, to } = request.into_inner();
        explain(&self.admin, &from, &to)
            .map(Response::new)
            .map_err(|e| Status::invalid_argument(e.to_string()))
    }

    async fn get_config_dump(&self, _: Request<Empty>) -> Answer<ConfigDump> {
        answer(ConfigDump { json: dump::config_dump(&self.admin).to_string() })
    }

    async fn set_log(&self, request: Request<LogRequest>) -> Answer<Log> {
        let directives = request.into_inner().directives;
        if !directives.is_empty() {
            self.admin.log.set(&directives).map_err(|e| Status::invalid_argument(e.to_string()))?;
        }
        answer(Log { directives: self.admin.log.current() })
    }

    async fn get_bpf(&self, _: Request<Empty>) -> Answer<Bpf> {
        answer(self.admin.agent.bpf())
    }
}
