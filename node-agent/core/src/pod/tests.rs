mod actions;
mod sequences;
mod status;
