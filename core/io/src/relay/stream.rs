//! A tunnel stream as a side of a relay.

use super::endpoint::{Broken, Cut, Endpoint};
use crate::hbone::{Stream, stream::StreamError};
use bytes::Bytes;
use std::task::{Context, Poll};

impl From<StreamError> for Broken {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Reset(_) => Self::Reset,
            StreamError::Lost(_) => Self::Lost,
        }
    }
}

impl Endpoint for Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        self.poll_recv(cx).map(|next| Ok(next.transpose()?))
    }

    fn release(&mut self, bytes: usize) {
        Self::release(self, bytes);
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, Broken>> {
        self.poll_send(cx, data).map_err(Broken::from)
    }

    fn finish(&mut self) -> Result<(), Broken> {
        Ok(Self::finish(self)?)
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        Self::poll_broken(self, cx).map(Broken::from)
    }

    fn cut(&mut self, why: Cut) {
        // RFC 9113, section 8.5: a TCP connection that breaks is a stream error of this type.
        self.reset(match why {
            Cut::OtherSideBroke => h2::Reason::CONNECT_ERROR,
            Cut::Closed => h2::Reason::CANCEL,
        });
    }

    fn settle(&mut self) {}
}
