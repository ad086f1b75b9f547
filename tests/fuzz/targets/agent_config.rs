//! The agent's configuration file: what is accepted can be run with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{
    path::{Component, Path},
    time::Instant,
};
use weft_agent::config::{Config, ConfigArgs};
use weft_model::Identity;

fuzz_target!(|data: &[u8]| {
    let args = ConfigArgs { config: Some(weft_fuzz::file::holding(data)), ..ConfigArgs::default() };
    match Config::load(args) {
        Ok(config) => {
            let parts: Vec<_> = Path::new(&config.node).components().collect();
            assert!(
                matches!(parts[..], [Component::Normal(_)]),
                "directories are named after {:?}",
                config.node
            );
            assert!(Instant::now().checked_add(config.drain).is_some(), "a drain without an end");
            assert_ne!(config.max_connections, 0);
            let identity = Identity::new(config.trust_domain, "shop", "web");
            assert_eq!(identity.to_string().parse(), Ok(identity));
            assert!(config.lanes.get() <= 4096, "{} threads", config.lanes);
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
