//! Serving nodes: delta discovery and certificates on one port.

pub mod agents;
pub mod auth;
mod resources;
mod review;
mod stream;
pub mod tls;
mod tokens;

pub use resources::Resources;
pub use review::TokenReviews;
pub use stream::Discovery;
pub use tokens::NodeTokens;
