//! The cluster's DNS: CoreDNS as Kubernetes installs it, in an image of our own.

use crate::{Image, Parts, parts::COREDNS, plan::Plan};
use anyhow::Result;
use std::path::Path;

/// The image's name.
pub(crate) fn image_name() -> String {
    format!("weft.dev/coredns:{COREDNS}")
}

/// Writes the image's archive.
pub(crate) fn build_image(parts: &Parts, archive: &Path) -> Result<()> {
    Image::new(&image_name())
        .program("/coredns", &parts.program("coredns")?)?
        .entrypoint(&["/coredns"])
        .build(archive)
}

/// The manifests.
pub(crate) fn manifests(plan: &Plan) -> String {
    MANIFESTS.replace("@IMAGE@", &image_name()).replace("@ADDRESS@", &plan.dns_service())
}

const MANIFESTS: &str = include_str!("dns.yaml");
