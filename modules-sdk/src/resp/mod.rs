//! The wire format of replies: encoding and decoding, shared by everyone who speaks it.
