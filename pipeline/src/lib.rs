//! The vocabulary and the engine of homeostat. It knows no component and no protocol.
//!
//! Read it in the order of the data's path: [`batch`] is what receivers submit, [`otlp`] reads its bytes in place,
//! [`evidence`] is what `tag` finds in them, [`entry`] is what the journal keeps, [`finding`] what analyzers emit,
//! [`ledger`] what becomes of findings. The contracts of the components are in [`contract`]; [`engine`] runs them.

pub mod batch;
pub mod budget;
pub mod checkpoint;
pub mod clock;
pub mod contract;
pub mod crash;
pub mod delivery;
pub mod drops;
pub mod engine;
pub mod entry;
pub mod evidence;
pub mod extension;
pub mod finding;
pub mod interest;
pub mod journal;
pub mod ledger;
pub mod log;
pub mod merging;
pub mod otlp;
pub mod refusal;
pub mod registry;
pub mod secret;
pub mod selector;
pub mod settings;
pub mod sockets;
pub mod steady;
pub mod storage;
pub mod tasks;
pub mod tracer;
pub mod watch;
