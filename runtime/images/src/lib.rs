//! runtime/images
