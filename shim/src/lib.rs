//! The shim: three roles in three processes.
//!
//! ```text
//!  containerd or agent ──ttrpc──▶ front ──seqpacket──▶ zygote ──fork──▶ container (guest)
//!                                   │                                      ▲
//!                                   └────────── control.sock ──────────────┘
//! ```
//!
//! The front **decides** (a bundle becomes a [`plan::ContainerPlan`] and a list of open files), the zygote forks, the
//! container **does** (it carries the plan out and then is the guest).

pub mod plan;
