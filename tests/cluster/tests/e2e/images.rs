//! The image of the application in pods; those of the mesh itself are there already.

use anyhow::Result;
use weft_cluster::{Cluster, Image, image};
use weft_tests::binaries;

/// The application in pods.
pub const APP: &str = "weft.dev/app:1";

/// Builds the image and imports it into every node.
pub fn provide(cluster: &Cluster) -> Result<()> {
    let directory = cluster.plan().data_directory().join("images");
    let program = image::stripped(&binaries::find("weft-app")?, &directory)?;
    let archive = directory.join("app.tar");
    Image::new(APP)
        .program("/usr/bin/weft-app", &program)?
        .busybox(&["sh", "sleep"])?
        .entrypoint(&["/usr/bin/weft-app"])
        .build(&archive)?;
    cluster.import(&archive)
}
