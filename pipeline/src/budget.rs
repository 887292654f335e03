//! The process memory budget.
/// Bytes in flight.
#[derive(Clone, Debug)]
pub struct Budget {}
