//! Runs everything.
/// Where receivers submit.
#[derive(Clone)]
pub struct Inlet {}
