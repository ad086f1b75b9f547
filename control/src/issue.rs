//! Issuing certificates: the authority and its keys, the rules of who gets what, and the service that nodes ask.

mod adopt;
mod authority;
mod files;
mod generate;
mod placement;
mod renew;
mod request;
mod rotate;
mod secret;
mod service;

pub use authority::{Authority, AuthorityError, Lifetimes};
pub(crate) use authority::{SKEW, Signer};
pub use placement::Placement;
pub use renew::keep_renewing;
pub use request::{BadRequest, Checked, check};
pub use secret::{KeepError, Keeper};
pub use service::Issuer;
