"""`gateway doctor`: walks every way that the gateway takes, step by step, and says where it ends and what to do."""
