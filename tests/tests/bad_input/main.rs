//! Bad input against a real homeostat: each answered as the table of outcomes says, counted once, in bounded memory; and after
//! all of it a fresh event is judged and forwarded.

mod ask;
mod bombs;
mod bytes_of;
mod floods;
mod frames;
mod http1;
mod overload;
mod rows_grpc;
mod rows_http;
mod site;
mod slow;
mod table;
