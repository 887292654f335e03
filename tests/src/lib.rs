//! What the whole-program tests share: real servers, a real homeostat, real requests.

pub mod backend;
pub mod client;
pub mod collector;
pub mod findings;
pub mod homeostat;
pub mod judged;
pub mod load;
pub mod logged;
pub mod messages;
pub mod nats;
pub mod postgres;
pub mod process;
pub mod scenario;
pub mod schema;
pub mod sparql;
pub mod telemetry;
pub mod whole;
pub mod world;
