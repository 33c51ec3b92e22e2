//! Fuzz targets for every decoder of outside bytes; they are in `tests`, nothing is here.
//!
//! ```text
//!   bytes ──► as they are                    ──► decode ──► no panic; what decodes encodes to the
//!         └─► patches on a real encoding,                   same bytes; nothing is allocated beyond
//!             cut, longer, checksum mended                  the input
//! ```
#![forbid(unsafe_code)]
