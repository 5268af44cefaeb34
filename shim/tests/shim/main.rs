//! A real front, zygote and guests, driven through the client as the agent drives them. Needs root.

mod bundle;
mod containerd;
mod death;
mod exec;
mod guests;
mod hooks;
mod life;
mod limits;
mod listening;
mod logs;
mod node;
mod reconnect;
mod refusals;
mod sandbox;
mod task_v2;
mod terminal;
mod upgrade;
