"""How fast each stage is compared with what people use and with the limit of the machine."""
