//! Real clusters of ordinary processes on private ports and directories, with faults on demand.
