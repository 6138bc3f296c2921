//! The clock of a process: every tier that is opened from one configuration goes by the same.

use std::sync::Arc;

use peercache_api::{Clock, CorrectedClock, SystemClock};

/// The machine's clock, which the peers tier corrects where the anchors have another time.
#[derive(Clone, Debug)]
pub(super) struct ProcessClock(Arc<CorrectedClock>);

impl ProcessClock {
    pub(super) fn shared(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0) as Arc<dyn Clock>
    }

    #[cfg(feature = "libp2p")]
    pub(super) fn corrected(&self) -> Arc<CorrectedClock> {
        Arc::clone(&self.0)
    }
}

impl Default for ProcessClock {
    fn default() -> Self {
        Self(Arc::new(CorrectedClock::new(Arc::new(SystemClock::new()))))
    }
}

/// It is no setting.
impl PartialEq for ProcessClock {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ProcessClock {}
