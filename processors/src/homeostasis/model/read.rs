//! placeholder
use super::{Model, Node, Problem};
pub(super) fn model(node: &Node, _hash: &str) -> Result<(Model, Vec<Problem>), Vec<Problem>> {
    Err(vec![Problem::error(&node.at, "the model's reader is being written")])
}
