//! The control plane's configuration file: what is accepted can be run with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_control::{args::RunArgs, config::Config};
use weft_model::Identity;

fuzz_target!(|data: &[u8]| {
    let args = RunArgs { config: Some(weft_fuzz::file::holding(data)), ..RunArgs::default() };
    match Config::load(&args) {
        Ok(config) => {
            let lives = &config.lifetimes;
            for life in [lives.leaf, lives.leaf_max, lives.root, lives.intermediate] {
                assert!(!life.is_zero(), "a certificate that never lives");
                assert!(std::time::SystemTime::now().checked_add(life).is_some(), "one that never ends");
            }
            assert!(config.names.is_sorted());
            let identity = Identity::new(config.index.trust_domain, "shop", "web");
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
