//! What the mains share: options, logging, composition.
