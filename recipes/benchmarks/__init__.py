"""What layers and networks cost in time, memory and accuracy, one question a file."""
