//! One Arrow schema for evidence.
