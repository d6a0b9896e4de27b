//! The whole cloud in one process, and its command line.
