//! Snapshots come back, and what is no snapshot is refused, however it is damaged.
