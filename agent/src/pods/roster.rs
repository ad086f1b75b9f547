//! The node's pods as others see them: published by the one who enrols, read by admin and telemetry.

use super::PodSpec;
use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use weft_model::WorkloadUid;

/// Where a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is carried.
    Enrolled,
    /// It is listed, but it is not meshed, or nothing is known of it yet.
    Outside,
    /// It should be carried and cannot.
    Failed(String),
}

/// A pod that the source lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// How the source names it.
    pub spec: PodSpec,
    /// Its addresses, where they are known.
    pub addresses: Vec<IpAddr>,
    /// Where it stands.
    pub standing: Standing,
}

/// The enrolled workloads by the cookie of their network namespace.
pub type LocalPods = Arc<ArcSwap<FxHashMap<u64, WorkloadUid>>>;

/// What is published.
#[derive(Debug, Default)]
pub struct Roster {
    /// Every pod that the source lists.
    pub listed: ArcSwap<Vec<Listed>>,
    /// Those that are enrolled.
    pub local: LocalPods,
    /// What else is in the way of pods' connections, by `namespace/name`.
    pub beside: ArcSwap<BTreeMap<String, String>>,
}
