//! node-agent/core
