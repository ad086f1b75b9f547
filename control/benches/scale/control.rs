//! Control, on generated objects.

use crate::generate::{Generated, RATE};
use std::{fs, io::BufRead, os::unix::fs::PermissionsExt, path::Path, sync::atomic::Ordering};
use weft_control::{app, args::RunArgs, config::Config};

/// The token of node `number`.
pub fn token(dir: &Path, number: usize) -> std::path::PathBuf {
    dir.join("state/tokens").join(format!("node-{number}"))
}

/// Runs until its input ends; each line there is another rate of changes.
pub fn run(dir: &Path, workloads: usize) {
    fs::create_dir_all(dir.join("state/tokens")).unwrap();
    fs::create_dir_all(dir.join("manifests")).unwrap();
    for number in 0..2000 {
        let path = token(dir, number);
        fs::write(&path, format!("token {number}")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let any = Some("127.0.0.1:0".parse().unwrap());
    let args = RunArgs {
        manifests: Some(dir.join("manifests")),
        state: Some(dir.join("state")),
        listen: any,
        monitoring: any,
        root: Some(dir.join("root.pem")),
        ..RunArgs::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let running = runtime.block_on(async {
        let source = Box::new(Generated(workloads));
        let running = app::start_on(Config::load(&args).unwrap(), Some(source)).await.unwrap();
        running.ready().await;
        running
    });
    println!("{}", running.bound.discovery);
    for line in std::io::stdin().lock().lines() {
        RATE.store(line.unwrap().trim().parse().unwrap(), Ordering::Relaxed);
    }
    runtime.block_on(running.stop());
}
