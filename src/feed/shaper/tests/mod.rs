mod model;
mod times;
