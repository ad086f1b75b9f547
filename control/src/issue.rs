//! Issuing certificates: the authority and its keys, the rules of who gets what, and the service that nodes ask.

mod authority;
mod generate;
mod placement;
mod renew;
mod request;
mod service;

pub use authority::{Authority, AuthorityError, Lifetimes};
pub use placement::Placement;
pub use renew::keep_renewing;
pub use request::{BadRequest, Checked, check};
pub use service::Issuer;
