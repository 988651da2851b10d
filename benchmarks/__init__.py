"""What speed claims are made from: each module measures against a peer or a limit, both in the same run."""
