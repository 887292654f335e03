//! Selectors of the model.
/// A condition on one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {}
