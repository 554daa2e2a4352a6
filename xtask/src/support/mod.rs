//! What several chores need.

pub(crate) mod binary;
pub(crate) mod count;
pub(crate) mod machine;
pub(crate) mod peers;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod service;
pub(crate) mod workspace;
