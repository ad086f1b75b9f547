//! What is near, and which endpoints of a service are therefore used.

use super::{Endpoint, Endpoints, ServiceEntry};
use crate::{
    Name, Service, ServiceKey, Workload,
    service::{LocalityMode, Scope},
    workload::{Health, Hint, Locality},
};

/// Where the reader of the snapshots stands: what "near" means when endpoints are preferred by locality.
#[derive(Clone, Debug, Default)]
pub struct Viewpoint {
    /// The node's name.
    pub node: Option<Name>,
    /// The node's cluster.
    pub cluster: Option<Name>,
    /// The node's network.
    pub network: Option<Name>,
}

/// What hints call the place where the snapshot is read.
enum Place {
    Node(Name),
    Zone(Name),
}

impl Place {
    /// What a hint says about places of this kind.
    fn kind_in<'a>(&self, hint: &'a Hint) -> &'a [Name] {
        match self {
            Place::Node(_) => &hint.nodes,
            Place::Zone(_) => &hint.zones,
        }
    }

    fn is_in(&self, hint: &Hint) -> bool {
        let (Place::Node(name) | Place::Zone(name)) = self;
        self.kind_in(hint).contains(name)
    }
}

/// Whether it matters from where an entry is read.
pub(super) fn is_choosy(entry: &ServiceEntry) -> bool {
    let hinted = |e: &Endpoint| e.workload.hint(&entry.service.key).is_some();
    entry.service.load_balancing.mode != LocalityMode::Any || entry.endpoints.all().iter().any(hinted)
}

impl Viewpoint {
    /// The endpoints of `service` as they are to be used from here.
    pub(super) fn arrange(
        &self,
        here: Option<&Locality>,
        service: &Service,
        all: Vec<Endpoint>,
    ) -> Endpoints {
        let balancing = &service.load_balancing;
        let health = |w: &Workload| if balancing.publish_not_ready { Health::Healthy } else { w.health };
        if balancing.mode == LocalityMode::Any
            && let Some(place) = self.hinted(here, &service.key, &all, health)
        {
            let far = |w: &Workload| usize::from(!w.hint(&service.key).is_some_and(|hint| place.is_in(hint)));
            return Endpoints::new(all, LocalityMode::Failover, far, health);
        }
        let shares = |scope: &&Scope, w: &Workload| self.shares(here, **scope, w);
        let far = |w: &Workload| {
            balancing.scopes.len() - balancing.scopes.iter().take_while(|scope| shares(scope, w)).count()
        };
        Endpoints::new(all, balancing.mode, far, health)
    }

    /// Which hints mean this place. As kube-proxy reads them: they count where every ready endpoint has one and one of
    /// them is for here, by node before zone. Otherwise endpoints are missing in them, and all are used.
    fn hinted(
        &self,
        here: Option<&Locality>,
        service: &ServiceKey,
        all: &[Endpoint],
        health: impl Fn(&Workload) -> Health,
    ) -> Option<Place> {
        let node = self.node.clone().map(Place::Node);
        let zone = here.map(|h| h.zone.clone()).filter(|zone| !zone.is_empty()).map(Place::Zone);
        let mut places = [node, zone];
        let mut named = [false; 2];
        for endpoint in all.iter().filter(|e| health(&e.workload) == Health::Healthy) {
            let hint = endpoint.workload.hint(service)?;
            for (place, named) in places.iter_mut().zip(&mut named) {
                *place = place.take().filter(|p| !p.kind_in(hint).is_empty());
                *named |= place.as_ref().is_some_and(|p| p.is_in(hint));
            }
        }
        places.into_iter().zip(named).find_map(|(place, named)| place.filter(|_| named))
    }

    /// Whether `workload` shares `scope` with the place where the snapshot is read.
    fn shares(&self, here: Option<&Locality>, scope: Scope, workload: &Workload) -> bool {
        let there = &workload.locality;
        match scope {
            Scope::Region => here.is_some_and(|h| h.region == there.region),
            Scope::Zone => here.is_some_and(|h| (&h.region, &h.zone) == (&there.region, &there.zone)),
            Scope::Subzone => here.is_some_and(|h| h == there),
            Scope::Node => self.node.as_ref() == Some(&workload.node),
            Scope::Cluster => self.cluster.as_ref() == Some(&workload.cluster),
            Scope::Network => self.network.as_ref() == Some(&workload.network),
        }
    }
}
