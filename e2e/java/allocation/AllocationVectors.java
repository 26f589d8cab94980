import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMachineRoomNearby;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByMachineRoom;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueConsistentHash;
import org.apache.rocketmq.client.latency.MQFaultStrategy;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.MessageQueue;

/** Prints what Apache's allocation strategies, hash selector and latency table give for fixed inputs, as one JSON object. */
public final class AllocationVectors {
    private static final AllocateMachineRoomNearby.MachineRoomResolver ROOMS =
        new AllocateMachineRoomNearby.MachineRoomResolver() {
            @Override public String brokerDeployIn(MessageQueue queue) {
                return queue.getBrokerName().split("@")[0];
            }

            @Override public String consumerDeployIn(String clientId) {
                return clientId.split("-")[0];
            }
        };

    public static void main(String[] arguments) {
        List<String> vectors = new ArrayList<>();
        AllocateMessageQueueByMachineRoom byRoom = new AllocateMessageQueueByMachineRoom();
        byRoom.setConsumeridcs(new TreeSet<>(Arrays.asList("room1", "room2")));
        List<AllocateMessageQueueStrategy> strategies = Arrays.asList(
            new AllocateMessageQueueAveragely(),
            new AllocateMessageQueueAveragelyByCircle(),
            byRoom,
            new AllocateMachineRoomNearby(new AllocateMessageQueueAveragely(), ROOMS),
            new AllocateMachineRoomNearby(new AllocateMessageQueueAveragelyByCircle(), ROOMS),
            new AllocateMessageQueueConsistentHash(),
            new AllocateMessageQueueConsistentHash(3));
        for (int queueCount : new int[] {1, 3, 4, 8, 11}) {
            for (int memberCount : new int[] {1, 2, 3, 5, 9}) {
                for (int strategy = 0; strategy < strategies.size(); strategy++) {
                    vectors.add(vector(strategy, strategies.get(strategy), queueCount, memberCount));
                }
            }
        }
        List<String> hashes = new ArrayList<>();
        for (String key : new String[] {"", "a", "order-17", "\u043a\u043b\u044e\u0447", "\ud83d\ude00", "polygenelubricants"}) {
            for (int count : new int[] {1, 4, 7}) {
                MessageQueue chosen = new SelectMessageQueueByHash().select(queues(count, 1), null, key);
                hashes.add("{\"key\":\"" + key + "\",\"count\":" + count + ",\"index\":" + chosen.getQueueId() + "}");
            }
        }
        MQFaultStrategy faults = new MQFaultStrategy(new org.apache.rocketmq.client.ClientConfig(), null, null);
        System.out.println("{\"allocations\":[" + String.join(",\n", vectors) + "],\n\"hashes\":[" + String.join(",\n", hashes)
            + "],\n\"latencyMax\":" + Arrays.toString(faults.getLatencyMax())
            + ",\n\"notAvailableDuration\":" + Arrays.toString(faults.getNotAvailableDuration()) + "}");
        System.exit(0);
    }

    private static String vector(int index, AllocateMessageQueueStrategy strategy, int queueCount, int memberCount) {
        List<MessageQueue> queues = queues(queueCount, 3);
        List<String> members = new ArrayList<>();
        for (int i = 0; i < memberCount; i++) {
            members.add("room" + (1 + i % 2) + "-10.0.0." + i + "@" + (100 + i) + "#77");
        }
        Collections.sort(members);
        List<String> shares = new ArrayList<>();
        for (String member : members) {
            List<String> share = new ArrayList<>();
            for (MessageQueue queue : strategy.allocate("group", member, queues, members)) {
                share.add("[\"" + queue.getBrokerName() + "\"," + queue.getQueueId() + "]");
            }
            shares.add("\"" + member + "\":[" + String.join(",", share) + "]");
        }
        List<String> all = new ArrayList<>();
        for (MessageQueue queue : queues) {
            all.add("[\"" + queue.getBrokerName() + "\"," + queue.getQueueId() + "]");
        }
        return "{\"strategy\":" + index + ",\"name\":\"" + strategy.getName() + "\",\"queues\":[" + String.join(",", all)
            + "],\"shares\":{" + String.join(",", shares) + "}}";
    }

    private static List<MessageQueue> queues(int count, int rooms) {
        List<MessageQueue> queues = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            queues.add(new MessageQueue("orders", "room" + (1 + i % rooms) + "@broker-a", i / rooms));
        }
        Collections.sort(queues);
        return queues;
    }
}
