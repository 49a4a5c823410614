//! One budget of memory for connections, requests and answers.
//!
//! Whoever holds memory for a client holds a [`Grant`] of it for as long: a connection a fixed sum, a frame its size from
//! before room is made for it until its last slice is gone, an answer its bytes until the socket has
//! taken them. The budget is cut into shares, so that no use of it starves another; what a share has no
//! room for waits in line, first come, first served, and what is small is never made to wait while
//! anything is left. Invariant: what is granted conditionally stays within its share but for one
//! claim that is larger than all of it, which is served alone; dropping a grant, or a wait for
//! one, gives everything back.
//!
//! | use | share | when it is full |
//! |---|---|---|
//! | connections | 1/4, half of it of who must authenticate and has not | the oldest of those is closed, else the next |
//! | frames of who has not authenticated | 1/16 | they are not read on |
//! | frames | 1/4 | they are not read on |
//! | of those, frames larger than 2 MiB | 1/8 | they are not read on; what they announce holds up no other |
//! | answers of fetches | 1/4 | they wait; who takes answers slowly is closed, the largest first |
//! | small frames, other answers | what is left | requests wait for their turn |
//!
//! Shell.

mod core;
mod machine;
mod shell;

pub(crate) use self::core::Use;
pub(crate) use machine::machine_bytes;
pub(crate) use shell::{Budget, Grant, Overfull, SlowReader, Wait};
