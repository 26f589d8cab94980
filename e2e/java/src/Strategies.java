import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMachineRoomNearby;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByConfig;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByMachineRoom;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueConsistentHash;
import org.apache.rocketmq.common.message.MessageQueue;

/** The ways in which the members of a group share queues. A broker's room is its name before {@code @}. */
final class Strategies {
    private Strategies() {
    }

    static AllocateMessageQueueStrategy named(Arguments arguments) {
        switch (arguments.text("strategy")) {
            case "AVG": return new AllocateMessageQueueAveragely();
            case "AVG_BY_CIRCLE": return new AllocateMessageQueueAveragelyByCircle();
            case "CONSISTENT_HASH": return new AllocateMessageQueueConsistentHash();
            case "CONFIG": {
                AllocateMessageQueueByConfig strategy = new AllocateMessageQueueByConfig();
                List<MessageQueue> queues = new ArrayList<>();
                for (Arguments queue : arguments.list("queues")) {
                    queues.add(new MessageQueue(queue.text("topic"), queue.text("broker_name"), (int) queue.number("queue_id", 0)));
                }
                strategy.setMessageQueueList(queues);
                return strategy;
            }
            case "MACHINE_ROOM": {
                AllocateMessageQueueByMachineRoom strategy = new AllocateMessageQueueByMachineRoom();
                strategy.setConsumeridcs(Collections.singleton(arguments.text("room")));
                return strategy;
            }
            case "MACHINE_ROOM_NEARBY":
                return new AllocateMachineRoomNearby(new AllocateMessageQueueAveragely(), new AllocateMachineRoomNearby.MachineRoomResolver() {
                    @Override
                    public String brokerDeployIn(MessageQueue queue) {
                        return queue.getBrokerName().split("@")[0];
                    }

                    /** Client ids are ADDRESS@INSTANCE; a test's instances begin with their room. */
                    @Override
                    public String consumerDeployIn(String clientId) {
                        return clientId.split("@")[1].split("-")[0];
                    }
                });
            default: throw new IllegalArgumentException("unknown strategy " + arguments.text("strategy"));
        }
    }
}
