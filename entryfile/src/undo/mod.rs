//! What blocks replaced in the tree: the undo file.

pub(crate) mod file;
pub(crate) mod record;
