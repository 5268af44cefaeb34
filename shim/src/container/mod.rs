//! The container: a zygote's child that carries a [`crate::plan::ContainerPlan`] out and then is the guest.
