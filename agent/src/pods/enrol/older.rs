//! What a pod had open when it came into the mesh.

use super::Pod;
use crate::pods::older::{Older, open, reset};

/// Connections that are named one by one; more are only counted.
const NAMED: usize = 20;

/// Tells of the connections that the pod had before, and resets them where that is wished. To be called when it is enrolled:
/// what is opened from then on is the mesh's.
pub(super) fn look(pod: &Pod, wish: Older) {
    let open = match open(&pod.netns) {
        Ok(open) if open.is_empty() => return,
        Ok(open) => open,
        Err(error) => {
            tracing::warn!(pod = %pod.spec, %error, "cannot tell which connections the pod had before it came into the mesh");
            return;
        }
    };
    for one in open.iter().take(NAMED) {
        tracing::info!(pod = %pod.spec, local = %one.local, remote = %one.remote, "open since before the pod came into the mesh");
    }
    let count = open.len();
    if wish == Older::Keep {
        tracing::warn!(pod = %pod.spec, connections = count,
            "connections from before go on as they were, neither encrypted nor judged; restart the pod, or say \
             `olderConnections: reset`, to be rid of them");
        return;
    }
    let done = open.iter().filter(|one| match reset(&pod.netns, one) {
        Ok(was_there) => was_there,
        Err(error) => {
            tracing::error!(pod = %pod.spec, local = %one.local, remote = %one.remote, %error, "cannot be reset");
            false
        }
    });
    tracing::info!(pod = %pod.spec, connections = count, reset = done.count(), "connections from before are reset");
}
